"""Small networks whose weights come with robustkit."""
