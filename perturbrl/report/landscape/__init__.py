"""Pictures of landscapes: PNG by matplotlib, and one interactive page. Draws ``landscape.pictures.scene`` parts."""
