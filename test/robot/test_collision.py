"""The collision model against geometry of our own, analytic cases and the experts' motions."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shapes_reference import Arms, heights, separations

from dfm_vla_ros.robot.collision import CollisionModel
from dfm_vla_ros.robot.collision_scene import TABLE, Distances
from dfm_vla_ros.robot.collision_urdf import CollisionModelError
from dfm_vla_ros.robot.description import robot_description
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits

Array = NDArray[np.float64]

URDF = robot_description()
LIMITS = JointLimits.from_urdf(URDF)
HOME = np.array([0.0, 1.455, -0.729, 0.0, 0.931, 0.0, 0.035] * 2)
MIRROR = np.array([-1, 1, 1, -1, 1, -1, 1] * 2)


@pytest.fixture(scope="module")
def model() -> CollisionModel:
    return CollisionModel(URDF, JOINT_NAMES)


def posture(**joints: float) -> Array:
    """Home but for the joints named."""
    found = HOME.copy()
    for name, value in joints.items():
        found[JOINT_NAMES.index(name)] = value
    return found


def leaning(angle: float) -> Array:
    """The left arm leant forward and down by ``angle``, fingers ahead."""
    return posture(left_joint2=HOME[1] + angle, left_joint3=HOME[2] - 0.6, left_joint5=0.33)


def random_postures(count: int, seed: int, spread: float = 1.0) -> Array:
    """Within the limits, a share ``spread`` of the way from home."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(LIMITS.lower, LIMITS.upper, (count, len(JOINT_NAMES)))
    return HOME + spread * (drawn - HOME)


def mirrored(postures: Array) -> Array:
    """What the other arm does in a mirror between the two."""
    return (postures * MIRROR)[:, [*range(7, 14), *range(7)]]


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
    return CollisionModel(urdf, names, minimum_m, table_height_m=None)


# --- analytic cases


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


# --- the two arms


def test_that_home_and_the_folded_pose_are_clear(model: CollisionModel) -> None:
    assert model.check(np.stack([HOME, np.zeros(14)])) is None


def test_that_arms_turned_at_each_other_are_refused_and_named(model: CollisionModel) -> None:
    turned = posture(left_joint1=-1.2, right_joint1=1.2)
    breach = model.check(np.stack([HOME, turned]))
    assert breach is not None and breach.index == 1
    assert {breach.first[:5], breach.second[:5]} == {"left_", "right"}
    assert breach.distance_m < breach.allowed_m == model.distances.arms_m


def test_that_an_arm_driven_into_the_table_is_refused_and_named(model: CollisionModel) -> None:
    path = np.stack([leaning(angle) for angle in np.linspace(0.0, 1.4, 20)])
    breach = model.check(path)
    assert breach is not None and breach.second == TABLE and breach.first.startswith("left_")
    assert breach.index == 19 and breach.distance_m < 0
    assert CollisionModel(URDF, JOINT_NAMES, table_height_m=None).check(path) is None
    assert CollisionModel(URDF, JOINT_NAMES, table_height_m=-0.7).check(path) is None


def test_that_fingers_may_press_as_deep_as_said_and_no_deeper() -> None:
    arms = Arms(URDF, JOINT_NAMES)
    lean = np.linspace(0.8, 1.4, 40)
    for allowed_m in (-0.06, 0.0, 0.015):
        model = CollisionModel(URDF, JOINT_NAMES, distances=Distances(fingers_m=allowed_m))
        below = 0
        for angle in lean:
            moved = leaning(angle)
            lowest = min(table_distances(arms, moved, finger=True).values())
            below += lowest < allowed_m
            if abs(lowest - allowed_m) > 1e-6:
                found = {(b.first, b.second) for b in model.breaches(moved[None])}
                pressed = found & {("left_finger", TABLE), ("left_finger_mimic", TABLE)}
                assert bool(pressed) == (lowest < allowed_m), (allowed_m, lowest)
        assert 0 < below < len(lean)


def test_that_an_arm_folded_back_onto_its_own_base_is_refused(model: CollisionModel) -> None:
    # joint1 turned round and the forearm let down behind: the gripper meets the stand.
    found = {
        (b.first, b.second): b
        for b in model.breaches(random_postures(300, 1))
        if b.first.startswith("right_") and b.second.startswith("right_")
    }
    breach = found["right_base_link", "right_gripper_base"]
    assert breach.distance_m < 0 and breach.allowed_m == model.distances.own_m


def test_that_mirrored_postures_have_mirrored_distances(model: CollisionModel) -> None:
    hits = 0
    for row in random_postures(100, 2, 0.7):
        one, other = model.check(row[None]), model.check(mirrored(row[None]))
        assert (one is None) == (other is None)
        if one is not None and other is not None and one.distance_m > 0:
            hits += 1
            assert one.distance_m == pytest.approx(other.distance_m, abs=1e-5)
            assert one.allowed_m == other.allowed_m
    assert hits > 5


def test_that_what_cannot_be_helped_does_not_count(model: CollisionModel) -> None:
    for arm in ("left", "right"):
        for pair in (
            (f"{arm}_base_link", TABLE),
            (f"{arm}_base_link", f"{arm}_link1"),
            (f"{arm}_link1", f"{arm}_link2"),
            (f"{arm}_link5", f"{arm}_gripper_base"),
            (f"{arm}_gripper_base", f"{arm}_finger"),
            (f"{arm}_finger", f"{arm}_finger_mimic"),
        ):
            assert pair not in model.pairs
    assert ("left_base_link", "right_base_link") not in model.pairs
    assert model.pairs["left_link3", "left_link5"] == model.distances.own_m
    assert model.pairs["left_finger", "right_base_link"] == model.distances.arms_m
    assert model.pairs["right_gripper_base", "third_camera_link"] == model.distances.arms_m
    assert model.pairs["left_gripper_base", TABLE] == model.distances.table_m
    assert model.pairs["right_finger_mimic", TABLE] == model.distances.fingers_m


def test_that_a_pair_too_close_in_every_posture_does_not_count() -> None:
    # link3 and link5 are never more than 5 cm apart, whatever joints 4 and 5 do.
    close = CollisionModel(URDF, JOINT_NAMES, 0.06, distances=Distances(own_m=0.06))
    assert ("left_link3", "left_link5") not in close.pairs
    assert ("left_link2", "left_link4") in close.pairs


def test_that_a_smaller_minimum_bounds_every_distance() -> None:
    model = CollisionModel(URDF, JOINT_NAMES, 0.003)
    assert max(model.pairs.values()) == 0.003
    assert model.pairs["left_finger", TABLE] == Distances().fingers_m


# --- against brute force


def table_distances(arms: Arms, row: Array, finger: bool | None = None) -> dict[str, float]:
    """Return link -> distance to the table, of every link or of (other than) fingers."""
    half, is_round = solid_arrays(arms)
    low = heights(half, is_round, np.array(arms.place(row)))
    distances: dict[str, float] = {}
    for s, height in zip(arms.solids, low, strict=True):
        if finger is None or ("finger" in s.link) == finger:
            distances[s.link] = min(float(height), distances.get(s.link, np.inf))
    return distances


def solid_arrays(arms: Arms) -> tuple[Array, NDArray[np.bool_]]:
    return np.array([s.half for s in arms.solids]), np.array([s.round for s in arms.solids])


def brute_force(arms: Arms, pairs: dict[tuple[str, str], float], row: Array) -> dict:
    """Return the distance of every pair of links that might be too close."""
    half, is_round = solid_arrays(arms)
    pose, links = np.array(arms.place(row)), [s.link for s in arms.solids]
    i, j = np.array(
        [
            (a, b)
            for a in range(len(links))
            for b in range(a + 1, len(links))
            if (links[a], links[b]) in pairs
        ]
    ).T
    reach = np.linalg.norm(half, axis=1)
    apart = np.linalg.norm(pose[i, :3, 3] - pose[j, :3, 3], axis=1) - reach[i] - reach[j]
    i, j = i[apart < 0.05], j[apart < 0.05]
    found = separations((half[i], is_round[i], pose[i]), (half[j], is_round[j], pose[j]))
    distances: dict[tuple[str, str], float] = {}
    for a, b, distance in zip(i, j, found, strict=True):
        key = links[a], links[b]
        distances[key] = min(float(distance), distances.get(key, np.inf))
    for link, height in table_distances(arms, row).items():
        if (link, TABLE) in pairs:
            distances[link, TABLE] = height
    return distances


def assert_agrees(model: CollisionModel, arms: Arms, row: Array) -> int:
    """Compare every breach of a posture; return how many there are."""
    expected = {
        pair: distance
        for pair, distance in brute_force(arms, model.pairs, row).items()
        if distance < model.pairs[pair]
    }
    found = {(b.first, b.second): b for b in model.breaches(row[None])}
    for pair, distance in expected.items():
        # Alternating projections creep up on the distance of almost parallel faces.
        if distance < model.pairs[pair] - 2e-4:
            assert pair in found, (pair, distance)
    for pair, breach in found.items():
        distance = expected.get(pair, model.pairs[pair])
        overlap = distance < 1e-3 and TABLE not in pair
        assert breach.distance_m == pytest.approx(distance, abs=2e-4) or (
            overlap and breach.distance_m < 1e-3
        ), (pair, breach, distance)
    worst = model.check(row[None])
    least = min((b.distance_m for b in found.values()), default=None)
    assert (None if worst is None else worst.distance_m) == least
    return len(found)


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_that_random_postures_agree_with_brute_force(spread: float) -> None:
    model = CollisionModel(URDF, JOINT_NAMES, 0.03, distances=Distances(own_m=0.015))
    arms = Arms(URDF, JOINT_NAMES)
    rows = random_postures(40, 3, spread)
    breaches = [assert_agrees(model, arms, row) for row in rows]
    assert sum(breaches) > 5 and 0 in breaches


@pytest.mark.slow
def test_that_many_random_postures_agree_with_brute_force(model: CollisionModel) -> None:
    arms = Arms(URDF, JOINT_NAMES)
    for seed, spread in ((10, 0.2), (11, 0.5), (12, 1.0)):
        for row in random_postures(500, seed, spread):
            assert_agrees(model, arms, row)


# --- motions that must pass


def expert_commands(task: str, seed: int, noise_rad: float) -> Array:
    """What the demonstration commands, between its targets too."""
    from scipy.interpolate import CubicSpline

    from dfm_vla_ros.sim.demonstrate import correlated_noise
    from dfm_vla_ros.sim.experts import expert_targets
    from dfm_vla_ros.sim.twin import HOME, Twin

    twin = Twin()
    twin.reset(task, seed)
    targets = np.concatenate([HOME[None], expert_targets(task, twin)])
    noisy = targets + correlated_noise(len(targets), noise_rad, seed)
    times = np.arange(len(noisy))
    fine = CubicSpline(times, noisy, bc_type="clamped")(np.arange(0, len(noisy) - 1, 0.2))
    return np.clip(fine, LIMITS.lower, LIMITS.upper)


@pytest.mark.parametrize("task", ["pot_lift", "place_veg", "place_block"])
def test_that_the_experts_commands_pass(model: CollisionModel, task: str) -> None:
    for seed, noise_rad in ((0, 0.0), (1, 0.02)):
        assert model.check(expert_commands(task, seed, noise_rad)) is None


@pytest.mark.slow
@pytest.mark.parametrize("task", ["pot_lift", "place_veg", "place_block"])
def test_that_many_demonstrations_pass(model: CollisionModel, task: str) -> None:
    for seed in range(20):
        for noise_rad in (0.0, 0.02):
            assert model.check(expert_commands(task, seed, noise_rad)) is None


# --- a good citizen


def test_that_32_postures_take_less_than_3_ms(model: CollisionModel) -> None:
    rows = random_postures(32, 4, 0.1)
    spent = []
    for _ in range(50):
        began = time.perf_counter()
        model.check(rows)
        spent.append(time.perf_counter() - began)
    assert np.median(spent) < 3e-3


def test_that_the_answer_does_not_depend_on_what_was_asked_before(model: CollisionModel) -> None:
    rows = random_postures(200, 5)
    together = [model.check(row[None]) for row in rows]
    again = [model.check(row[None]) for row in rows[::-1]][::-1]
    assert together == again
    fresh = CollisionModel(URDF, JOINT_NAMES)
    assert [fresh.check(row[None]) for row in rows] == together
    least = min((b for b in together if b), key=lambda b: b.distance_m)
    whole = model.check(rows)
    assert whole is not None and whole.distance_m == least.distance_m
    assert together[whole.index] is not None


def test_that_no_postures_break_nothing(model: CollisionModel) -> None:
    assert model.check(np.empty((0, 14))) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_that_a_posture_that_is_not_finite_is_refused(model: CollisionModel, value: float) -> None:
    with pytest.raises(CollisionModelError, match=r"posture 0: left_joint3 is .*, not finite"):
        model.check(posture(left_joint3=value)[None])


def test_that_postures_of_another_size_are_refused(model: CollisionModel) -> None:
    with pytest.raises(CollisionModelError, match=r"shape \(14,\), expected \(M, 14\)"):
        model.check(HOME)


@pytest.mark.parametrize("minimum_m", [0.0, -0.01, np.nan])
def test_that_a_minimum_that_is_not_positive_is_refused(minimum_m: float) -> None:
    with pytest.raises(CollisionModelError, match=r"minimum_distance is .* give a positive"):
        CollisionModel(URDF, JOINT_NAMES, minimum_m)


# --- URDFs that cannot be used


REMEDY = "set minimum_distance to 0"


def test_that_a_missing_mesh_names_link_file_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/arms")
    mesh = '<mesh filename="package://arm_meshes/cube.stl"/>'
    with pytest.raises(CollisionModelError) as caught:
        box_model(boxes(mesh=mesh))
    for part in ("'a_box'", "package://arm_meshes/cube.stl", "/opt/arms/share", REMEDY):
        assert part in str(caught.value)


def test_that_a_mesh_of_another_format_names_the_formats(tmp_path: Path) -> None:
    (tmp_path / "cube.dae").write_text("<COLLADA/>")
    mesh = f'<mesh filename="file://{tmp_path}/cube.dae"/>'
    with pytest.raises(CollisionModelError, match=r"'a_box'.*none of .stl, .obj, .msh.*" + REMEDY):
        box_model(boxes(mesh=mesh))


def test_that_a_broken_mesh_names_the_link(tmp_path: Path) -> None:
    (tmp_path / "cube.stl").write_text("no mesh at all")
    mesh = f'<mesh filename="{tmp_path}/cube.stl"/>'
    with pytest.raises(CollisionModelError, match=r"(?s)link 'a_box': MuJoCo cannot.*" + REMEDY):
        box_model(boxes(mesh=mesh))


def test_that_a_drawn_link_without_collision_shape_is_named() -> None:
    drawn = '<visual><geometry><box size="0.2 0.2 0.2"/></geometry></visual>'
    with pytest.raises(CollisionModelError, match=f"'a_box'.* has no <collision>.*{REMEDY}"):
        box_model(boxes(drawn=drawn))


def test_that_a_joint_that_moves_no_shape_is_named() -> None:
    with pytest.raises(CollisionModelError, match=f"'a_slide'.*'a_x'.*no <collision>.*{REMEDY}"):
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
    with pytest.raises(CollisionModelError, match=message):
        box_model(boxes().replace(old, new))
