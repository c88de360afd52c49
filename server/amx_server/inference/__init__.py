"""What agents ask of models, tools and files: outbound operations and, later, model providers and embeddings."""
