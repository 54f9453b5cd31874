"""Networks for grids: convolutions over the pixels of an image, a recurrent layer over the steps of a sequence."""
