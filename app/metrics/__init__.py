"""Measures of a result, each a small function of arrays; ``app.evaluate`` runs them over a clip."""
