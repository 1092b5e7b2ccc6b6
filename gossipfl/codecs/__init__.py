"""Codecs: a weight delta to bytes and back. One codec per file."""

from gossipfl.codecs.codec import Codec, Decoder, codec_of, load_codec

__all__ = ["Codec", "Decoder", "codec_of", "load_codec"]
