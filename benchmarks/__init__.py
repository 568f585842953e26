"""One script a question; results/ holds what they printed."""
