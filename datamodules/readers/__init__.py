"""Annotation files of captioned pictures, one layout a module; each gives a list of ``Record``."""
