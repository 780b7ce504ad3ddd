"""Who does it say it is: a personality inventory, and statements it would make or would not."""
