"""Models behind any endpoint that speaks the OpenAI chat protocol."""
