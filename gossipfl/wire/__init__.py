"""What travels between two members: signed control frames and checked chunks of tensors."""
