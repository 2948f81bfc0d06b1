"""A student leaves the house: HuggingFace folder, ONNX, int8, model card; its differences checked; texts predicted."""
