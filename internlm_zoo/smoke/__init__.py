"""Whether a loaded model says what it should: golden data, or the limits of any sound model."""
