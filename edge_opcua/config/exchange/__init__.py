"""Tag lists of other products: what they export becomes our rows, and our rows become what they import."""
