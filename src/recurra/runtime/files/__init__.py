"""Reading model files: nothing in them is run, and nothing is believed before it is checked."""
