"""The bike tables: all that holds for rentals, hours and weather of Washington, D.C., alone."""
