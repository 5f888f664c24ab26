"""The runtime's layers: one class per class of Keras, registered under its name."""
