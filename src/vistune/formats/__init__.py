"""Files as rows, whatever their format; what a row means is for who reads it."""
