"""The trainer of the bundled model and of FunctionGemma: data, tokenizer, optimisation, scores."""
