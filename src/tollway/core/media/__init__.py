"""What is not text: embeddings, and later images, sound and film, in the dialects that ask for them."""
