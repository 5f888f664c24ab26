"""Trained Keras models without Keras: read from their files, run whole and step by step."""
