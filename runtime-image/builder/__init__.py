"""Makes the images that images.toml describes.

description ─► root ─► archive      docker-archives, without Docker
                └────► dockerfile   the same root, made in a stage of a Dockerfile
"""
