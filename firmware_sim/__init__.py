"""The device side: a bundle and audio in, text out, on the runtimes that a device would use.

Nothing here imports TensorFlow or the packages that train and convert: what this package can
transcribe from a bundle alone, an Android app or a firmware can transcribe.
"""
