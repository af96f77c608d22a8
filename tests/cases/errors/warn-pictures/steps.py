def same(picture):
    return picture
