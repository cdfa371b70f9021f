"""Matching: which anchors are positive, negative or ignored, before sampling."""
