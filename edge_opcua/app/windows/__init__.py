"""What models have judged, judged again or handed out: recorded windows outside of a lane."""
