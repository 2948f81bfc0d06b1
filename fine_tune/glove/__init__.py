"""Students on word vectors: files of the GloVe document, vectors, augmented rows, their training."""
