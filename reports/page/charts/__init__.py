"""Charts of the page: their lines, the curves drawn of them, and the drawing as inline SVG."""
