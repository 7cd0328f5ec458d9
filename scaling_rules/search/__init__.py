"""What searches share: scores of specs with their noise, kept on disk, by engines that survive what a score does."""
