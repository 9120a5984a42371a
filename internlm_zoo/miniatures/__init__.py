"""Every registry model in small, taken the whole way from a written release to text and back."""
