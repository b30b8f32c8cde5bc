"""Fewer bits for each weight. Arrays in, arrays out: no files and no models here."""
