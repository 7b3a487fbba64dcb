"""The collision model on two sliding boxes as drawn, and URDFs that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.robot.collision import CollisionModel
from dfm_vla_ros.robot.model import RobotModel, UrdfError


def boxes(
    gap: str = "1 0 0", limit: str = "-2", mesh: str = "", mimic: str = "", drawn: str = ""
) -> str:
    """Two 20 cm boxes, each on a slider along x and one across; the second starts at ``gap``."""
    shape = mesh or '<box size="0.2 0.2 0.2"/>'
    collision = f"<collision><geometry>{shape}</geometry></collision>"
    text = '<robot name="boxes"><link name="base_link"/>'
    for side, xyz in (("a", "0 0 0"), ("b", gap)):
        text += f'<link name="{side}_slide"/><link name="{side}_box">{drawn or collision}</link>'
        for name, parent, child, axis, start in (
            ("x", "base_link", f"{side}_slide", "1 0 0", xyz),
            ("y", f"{side}_slide", f"{side}_box", "0 1 0", "0 0 0"),
        ):
            follow = mimic if side + name == "by" else ""
            text += (
                f'<joint name="{side}_{name}" type="prismatic"><parent link="{parent}"/>'
                f'<child link="{child}"/><origin xyz="{start}"/><axis xyz="{axis}"/>'
                f'<limit lower="{limit}" upper="2" velocity="1" effort="1"/>{follow}</joint>'
            )
    return text + "</robot>"


BOX_JOINTS = ("a_x", "a_y", "b_x", "b_y")


def box_model(
    urdf: str, minimum_m: float = 0.1, names: tuple[str, ...] = BOX_JOINTS
) -> CollisionModel:
    return CollisionModel(RobotModel(urdf, names), minimum_m, table_height_m=None)


def test_that_faces_corners_and_edges_have_the_distance_of_the_drawing() -> None:
    model = box_model(boxes())
    faces = model.check(np.array([[0.0, 0, -0.75, 0], [0.0, 0, -0.77, 0]]))
    assert faces is not None and (faces.first, faces.second) == ("a_box", "b_box")
    assert faces.distance_m == pytest.approx(0.03, abs=1e-6)
    assert (faces.allowed_m, faces.index) == (0.1, 1)
    edges = model.check(np.array([[0.0, 0.24, -0.77, 0.0]]))
    assert edges is not None and edges.distance_m == pytest.approx(0.05, abs=1e-6)
    corners = box_model(boxes("0.22 0.23 0.26")).check(np.zeros((1, 4)))
    assert corners is not None and corners.distance_m == pytest.approx(0.07, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "gap"),
    [
        ('<sphere radius="0.1"/>', 0.05),
        ('<cylinder radius="0.1" length="0.5"/>', 0.05),
        ('<cylinder radius="0.1" length="0.02"/>', 0.05),
        ('<box size="0.21 0.3 0.4"/>', 0.04),
    ],
)
def test_that_every_primitive_has_its_size(shape: str, gap: float) -> None:
    breach = box_model(boxes("0.25 0 0", mesh=shape)).check(np.zeros((1, 4)))
    assert breach is not None and breach.distance_m == pytest.approx(gap, abs=1e-6)


def test_that_the_bound_itself_is_kept_and_a_hair_less_is_not() -> None:
    model = box_model(boxes())
    assert model.check(np.array([[0.0, 0.0, -0.7 + 1e-5, 0.0]])) is None
    assert model.check(np.array([[0.0, 0.0, -0.7 - 1e-5, 0.0]])) is not None


def test_that_an_overlap_is_negative_by_its_depth() -> None:
    breach = box_model(boxes()).check(np.array([[0.0, 0.0, -0.85, 0.0]]))
    assert breach is not None and breach.distance_m == pytest.approx(-0.05, abs=1e-4)


def test_that_a_mimicking_joint_follows_its_joint() -> None:
    mimic = '<mimic joint="a_y" multiplier="-2" offset="0.5"/>'
    model = box_model(boxes("0.25 0 0", mimic=mimic), names=("a_x", "a_y"))
    meets, far = np.array([[0.0, 0.5 / 3]]), np.array([[0.0, 0.0]])
    breach = model.check(meets)
    assert breach is not None and breach.distance_m == pytest.approx(0.05, abs=1e-6)
    assert model.check(far) is None


def test_that_a_joint_nobody_commands_rests_at_the_limit_nearest_to_zero() -> None:
    urdf = boxes("0.25 0 0").replace(
        '<axis xyz="0 1 0"/><limit lower="-2"', '<axis xyz="0 1 0"/><limit lower="0.3"'
    )
    breach = box_model(urdf, names=("a_x", "b_x")).check(np.zeros((1, 2)))
    assert breach is not None and breach.distance_m == pytest.approx(0.05, abs=1e-6)
    assert box_model(urdf, names=("a_x", "a_y", "b_x")).check(np.array([[0.0, -0.1, 0.0]])) is None


def test_that_meshes_count_as_the_shapes_they_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "share" / "arm_meshes"
    share.mkdir(parents=True)
    write_cube(share / "cube.obj", 0.1)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    mesh = '<mesh filename="package://arm_meshes/cube.obj" scale="2 2 2"/>'
    drawn, plain = box_model(boxes(mesh=mesh), 0.3), box_model(boxes(), 0.3)
    for row in np.random.default_rng(0).uniform(-0.4, 0.4, (50, 4)):
        expected, found = plain.check(row[None]), drawn.check(row[None])
        assert (expected is None) == (found is None)
        if expected is not None and found is not None:
            assert found.distance_m == pytest.approx(expected.distance_m, abs=1e-5)


def write_cube(path: Path, edge_m: float) -> None:
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    lines = [f"v {x * edge_m / 2} {y * edge_m / 2} {z * edge_m / 2}" for x, y, z in corners]
    faces = ("1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4")
    path.write_text("\n".join([*lines, *(f"f {face}" for face in faces)]) + "\n")


REMEDY = "set minimum_distance to 0"


def test_that_a_missing_mesh_names_link_file_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/arms")
    mesh = '<mesh filename="package://arm_meshes/cube.stl"/>'
    with pytest.raises(UrdfError) as caught:
        box_model(boxes(mesh=mesh))
    for part in ("'a_box'", "package://arm_meshes/cube.stl", "/opt/arms/share", REMEDY):
        assert part in str(caught.value)


def test_that_a_mesh_of_another_format_names_the_formats(tmp_path: Path) -> None:
    (tmp_path / "cube.dae").write_text("<COLLADA/>")
    mesh = f'<mesh filename="file://{tmp_path}/cube.dae"/>'
    with pytest.raises(UrdfError, match=r"'a_box'.*none of .stl, .obj, .msh.*" + REMEDY):
        box_model(boxes(mesh=mesh))


def test_that_a_broken_mesh_names_the_link(tmp_path: Path) -> None:
    (tmp_path / "cube.stl").write_text("no mesh at all")
    mesh = f'<mesh filename="{tmp_path}/cube.stl"/>'
    with pytest.raises(UrdfError, match=r"(?s)link 'a_box': MuJoCo cannot.*" + REMEDY):
        box_model(boxes(mesh=mesh))


def test_that_a_drawn_link_without_collision_shape_is_named() -> None:
    drawn = '<visual><geometry><box size="0.2 0.2 0.2"/></geometry></visual>'
    with pytest.raises(UrdfError, match=f"'a_box'.* has no <collision>.*{REMEDY}"):
        box_model(boxes(drawn=drawn))


def test_that_a_joint_that_moves_no_shape_is_named() -> None:
    with pytest.raises(UrdfError, match=f"'a_slide'.*'a_x'.*no <collision>.*{REMEDY}"):
        box_model(boxes(drawn="<!-- nothing -->"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('size="0.2 0.2 0.2"', 'size="0.2 0.2"', "'a_box': unusable <collision>"),
        ('size="0.2 0.2 0.2"', "", "'a_box': unusable <collision>"),
        ('<box size="0.2 0.2 0.2"/>', "<cone/>", "'a_box': its <collision> is no box"),
        ('name="b_y"', 'name="c_y"', "no joint 'b_y'"),
        ("</robot>", "", "no XML"),
        ('<axis xyz="1 0 0"/>', '<axis xyz="0 0 0"/>', "MuJoCo cannot build the robot"),
    ],
)
def test_that_a_urdf_that_cannot_be_used_says_why(old: str, new: str, message: str) -> None:
    with pytest.raises(UrdfError, match=message):
        box_model(boxes().replace(old, new))
