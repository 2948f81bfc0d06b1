"""Networks: encoder, classifier, what makes targets; how a student starts; how models are saved, read, placed."""
