"""The runtime: engines that turn ids into logits, and the session that turns text into text around them."""
