"""The web page: a client of the API with Gradio's components, for one model or two side by side."""
