"""Networks as data: specs, their exact costs, and the rules that scale them. Pure Python."""
