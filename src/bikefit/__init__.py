"""bikefit finds out which regularization makes a neural network fit rental-bike data well."""
