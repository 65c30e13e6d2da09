"""Ray caster for the shading maps of the 3DShapes twin.

Hues only color the image, so 8 scales x 4 shapes x 15 orientations = 480 geometries give all 480,000 images. Each
geometry has four maps: the share of a pixel that the sky covers, and the shaded shares of floor, wall and object.
To regenerate `shapes3d_maps.npz`:

    python -m keras_provlae.datasets.shapes3d_renderer shapes3d_maps.npz

Lengths are in units of the cube's edge at scale 1: x to the right, y away from the camera at orientation 0, z up.
Geometry and light were fitted to real frames.
"""

import sys

import numpy as np

SCALES = 0.75 + 0.5 * np.arange(8) / 7
SHAPES = ("cube", "cylinder", "sphere", "capsule")
ORIENTATIONS = -30.0 + 60.0 * np.arange(15) / 14  # degrees
SIZE = 64  # pixels

_SKY, _FLOOR, _WALL, _OBJECT = range(4)
_CAMERA_RADIUS, _CAMERA_HEIGHT, _PITCH = 4.0, 1.222, 0.036  # pitch in radians, downward
_FOCAL_LENGTH = SIZE / 2 / np.tan(np.radians(45.0) / 2)  # pixels
_ROOM_HALF, _ROOM_HEIGHT = 4.183, 2.441
_CYLINDER_RADIUS, _CYLINDER_HEIGHT = 0.53, 1.04
_SPHERE_RADIUS = 0.61
_CAPSULE_RADIUS, _CAPSULE_HEIGHT = 0.45, 1.88

_AMBIENT, _HEADLIGHT, _LIGHT = 0.40387, 0.54221, 0.52619  # shares of the full color
_LIGHT_AZIMUTH, _LIGHT_ELEVATION = 0.54804, 1.71641  # radians; direction of the shading light
_SHADOW_DIRECTION = np.array([-0.38, 0.2, 1.0]) / np.linalg.norm(
    [-0.38, 0.2, 1.0]
)  # toward the light that casts shadows
_SAMPLES = 4  # rays per pixel and axis
_NEAR = 1e-6  # nearer hits are the start of the ray itself


def shading_maps(scale: int, shape: int, orientation: int) -> np.ndarray:
    """Renders the four maps of one geometry.

    Args:
        scale: Int 0 .. 7.
        shape: Int 0 .. 3: cube, cylinder, sphere, capsule.
        orientation: Int 0 .. 14: angle of the camera around the object, from -30 to 30 degrees.

    Returns:
        Float array `(64, 64, 4)` in [0, 1]: sky, floor, wall, object.
    """
    origin, forward, rays = _camera(np.radians(ORIENTATIONS[orientation]))
    label, distance, normal = _room(origin, rays)
    to_object, object_normal = _hit(SHAPES[shape], SCALES[scale], origin, rays)
    nearer = to_object < distance
    label[nearer], distance[nearer], normal[nearer] = _OBJECT, to_object[nearer], object_normal[nearer]

    azimuth, elevation = _LIGHT_AZIMUTH, _LIGHT_ELEVATION
    towards = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    lit = np.ones(label.shape)
    floor = label == _FLOOR
    point = origin + distance[floor, np.newaxis] * rays[floor] + 1e-4 * normal[floor]
    lit[floor] = np.isinf(_hit(SHAPES[shape], SCALES[scale], point, _SHADOW_DIRECTION)[0])
    shade = _AMBIENT + _HEADLIGHT * np.maximum(normal @ -forward, 0) + _LIGHT * lit * np.maximum(normal @ towards, 0)

    maps = (label[..., np.newaxis] == np.arange(4)) * np.where(label == _SKY, 1.0, np.minimum(shade, 1.0))[
        ..., np.newaxis
    ]
    return maps.reshape(SIZE, _SAMPLES, SIZE, _SAMPLES, 4).mean(axis=(1, 3))


def write_maps(path: str) -> None:
    """Renders all geometries to uint8 `maps` `(480, 64, 64, 4)`, in the order scale, shape, orientation.

    Args:
        path: Path of the npz file to write, about 200 kB.
    """
    grid = np.ndindex(len(SCALES), len(SHAPES), len(ORIENTATIONS))
    maps = np.stack([np.rint(255 * shading_maps(*geometry)).astype("uint8") for geometry in grid])
    np.savez_compressed(path, maps=maps)


def _camera(angle):
    """Returns the camera's position, its view direction, and the unnormalized rays `(256, 256, 3)`."""
    sin, cos = np.sin(angle), np.cos(angle)
    origin = np.array([_CAMERA_RADIUS * sin, -_CAMERA_RADIUS * cos, _CAMERA_HEIGHT])
    forward = np.array([-sin * np.cos(_PITCH), cos * np.cos(_PITCH), -np.sin(_PITCH)])
    right = np.array([cos, sin, 0.0])
    up = np.cross(right, forward)
    offset = ((np.arange(SIZE * _SAMPLES) + 0.5) / _SAMPLES - SIZE / 2) / _FOCAL_LENGTH
    column, row = np.meshgrid(offset, offset)
    return origin, forward, forward + column[..., np.newaxis] * right - row[..., np.newaxis] * up


def _room(origin, rays):
    """Intersects rays with the empty room: label, distance (in ray lengths) and normal."""
    label = np.full(rays.shape[:-1], _SKY)
    distance = np.full(rays.shape[:-1], np.inf)
    normal = np.zeros(rays.shape)
    half = _ROOM_HALF + 1e-9  # includes the edges
    # floor, then back, left and right wall; the front wall is behind the camera
    for kind, axis, place in (
        (_FLOOR, 2, 0.0),
        (_WALL, 1, _ROOM_HALF),
        (_WALL, 0, -_ROOM_HALF),
        (_WALL, 0, _ROOM_HALF),
    ):
        with np.errstate(divide="ignore"):
            reach = (place - origin[axis]) / rays[..., axis]
        with np.errstate(invalid="ignore"):
            x, y, z = np.moveaxis(origin + reach[..., np.newaxis] * rays, -1, 0)
        within = (np.abs(x) <= half) & (np.abs(y) <= half) & (z >= -1e-9) & (z <= _ROOM_HEIGHT)
        met = within & (reach > _NEAR) & (reach < distance)
        label[met], distance[met] = kind, reach[met]
        normal[met] = 0.0
        normal[met, axis] = 1.0 if origin[axis] > place else -1.0
    return label, distance, normal


def _hit(shape, scale, origin, rays):
    """Intersects rays with the object: distance, infinite for a miss, and normal."""
    origin, rays = np.broadcast_arrays(origin, rays)
    with np.errstate(divide="ignore", invalid="ignore"):
        if shape == "cube":
            return _hit_cube(scale, origin, rays)
        if shape == "sphere":
            return _hit_sphere(_SPHERE_RADIUS * scale, _SPHERE_RADIUS * scale, origin, rays)
        if shape == "cylinder":
            radius, height = _CYLINDER_RADIUS * scale, _CYLINDER_HEIGHT * scale
            return _nearest(_hit_tube(radius, 0.0, height, origin, rays), _hit_disc(radius, height, origin, rays))
        radius, height = _CAPSULE_RADIUS * scale, _CAPSULE_HEIGHT * scale
        return _nearest(
            _hit_tube(radius, radius, height - radius, origin, rays),
            _hit_sphere(radius, radius, origin, rays),
            _hit_sphere(radius, height - radius, origin, rays),
        )


def _nearest(*hits):
    distance, normal = hits[0]
    for other, other_normal in hits[1:]:
        nearer = other < distance
        distance = np.where(nearer, other, distance)
        normal = np.where(nearer[..., np.newaxis], other_normal, normal)
    return distance, normal


def _hit_cube(edge, origin, rays):
    low, high = np.array([-edge / 2, -edge / 2, 0.0]), np.array([edge / 2, edge / 2, edge])
    one, other = (low - origin) / rays, (high - origin) / rays
    enter, leave = np.minimum(one, other), np.maximum(one, other).min(axis=-1)
    side, enter = enter.argmax(axis=-1), enter.max(axis=-1)
    distance = np.where((enter < leave) & (enter > _NEAR), enter, np.inf)
    normal = -np.sign(rays) * (side[..., np.newaxis] == np.arange(3))
    return distance, normal


def _hit_sphere(radius, height, origin, rays):
    """Intersects rays with a sphere centered at `height` above the origin."""
    center = np.array([0.0, 0.0, height])
    distance = _smaller_root(
        (rays**2).sum(axis=-1),
        (rays * (origin - center)).sum(axis=-1),
        ((origin - center) ** 2).sum(axis=-1) - radius**2,
    )
    return distance, (origin + distance[..., np.newaxis] * rays - center) / radius


def _hit_tube(radius, bottom, top, origin, rays):
    """Intersects rays with the side of a cylinder around the z axis."""
    flat_origin, flat_rays = origin[..., :2], rays[..., :2]
    distance = _smaller_root(
        (flat_rays**2).sum(axis=-1),
        (flat_rays * flat_origin).sum(axis=-1),
        (flat_origin**2).sum(axis=-1) - radius**2,
    )
    point = origin + distance[..., np.newaxis] * rays
    within = (point[..., 2] >= bottom) & (point[..., 2] <= top)
    return np.where(within, distance, np.inf), point / radius * [1.0, 1.0, 0.0]


def _hit_disc(radius, height, origin, rays):
    """Intersects rays with a horizontal disc, seen from above."""
    distance = (height - origin[..., 2]) / rays[..., 2]
    point = origin + distance[..., np.newaxis] * rays
    met = (distance > _NEAR) & (point[..., 0] ** 2 + point[..., 1] ** 2 < radius**2)
    return np.where(met, distance, np.inf), np.broadcast_to([0.0, 0.0, 1.0], rays.shape)


def _smaller_root(a, b, c):
    """Returns the smaller root t of a t^2 + 2 b t + c = 0 if it is positive, else infinity."""
    root = (-b - np.sqrt(b * b - a * c)) / a
    return np.where(root > _NEAR, root, np.inf)  # False for NaN, when there is no real root


if __name__ == "__main__":
    write_maps(sys.argv[1])
