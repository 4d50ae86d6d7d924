"""Reading other frameworks' model files, without those frameworks.

Each reader returns the tensors of one file under that file's own names; `tensorflow_names` gives them ours.
"""
