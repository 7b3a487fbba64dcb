"""``sim_node``: the MuJoCo twin behind the topics of a real robot."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.errors import DfmVlaError, TrajectoryRefused
from dfm_vla_ros.msg import TaskStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import NANOSECONDS, Pace, from_nanoseconds, nanoseconds
from dfm_vla_ros.nodes.lifecycle import Parameter, ParameterError, declare, run
from dfm_vla_ros.nodes.messages import (
    TrajectoryMalformed,
    camera_info,
    doubles,
    fill,
    from_message,
)
from dfm_vla_ros.nodes.qos import share_more_memory
from dfm_vla_ros.observing.cameras import Rgb
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, CAMERAS, JOINT_NAMES
from dfm_vla_ros.robot.progress import Trajectory
from dfm_vla_ros.sim.controller import TrajectoryController
from dfm_vla_ros.sim.model import FIELD_OF_VIEW_DEG
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.srv import ResetTask

PARAMETERS = (
    Parameter("task", "place_block", "at the start: pot_lift, place_veg or place_block"),
    Parameter("seed", 0, "of the first episode", (0, 2**62)),
    Parameter("camera_width", 96, "[px]", (16, 640)),
    Parameter("camera_height", 96, "[px]", (16, 480)),
    Parameter("camera_rate", 20.0, "[Hz], a divisor of 100", (1.0, 100.0)),
    Parameter("black_cameras", [""], "names of cameras shown black: third, left_wrist, ..."),
    Parameter(
        "real_time_factor", 1.0, "simulated per real second; needs publish_clock", (0.1, 20)
    ),
    Parameter("publish_clock", False, "publish /clock: the graph runs on simulated time"),
)

NEWS_S = 1.0
"""Everybody has heard of a reset by then."""
ELSEWHERE_RAD = 0.2
"""No trajectory that begins at the commanded state has its first point further away."""
TICK_S = 0.01
TICK_NS = round(TICK_S * NANOSECONDS)
MIMICS = tuple(f"{arm}_gripper_mimic" for arm in ARMS)
GRIPPERS = [JOINT_NAMES.index(f"{arm}_gripper") for arm in ARMS]
# The third view comes last: it triggers the policy, which then has the others of that moment.
PUBLISHED_CAMERAS = sorted(CAMERAS, key=lambda camera: camera == "third")


class SimNode(Node):
    """Steps the twin in real time and publishes what its sensors see.

    Everything runs in the spinning thread: the renderer belongs to the thread that made it.
    """

    def __init__(self) -> None:
        """Build the twin and start its time at the real time of now."""
        super().__init__("sim_node")
        self._values = declare(self, PARAMETERS)
        _check(self._values)
        self._twin = Twin((self._values["camera_width"], self._values["camera_height"]))
        self._twin.dark_cameras = tuple(name for name in self._values["black_cameras"] if name)
        self._steps_per_tick = round(TICK_S / self._twin.timestep_s)
        self._ticks_per_image = round(1 / (TICK_S * self._values["camera_rate"]))
        self._ticks = 0
        self._now_ns = time.time_ns()
        self._success = False
        self._make_topics()
        self._reset(self._values["task"], self._values["seed"])
        tick_s = TICK_S / self._values["real_time_factor"]
        self._pace = Pace(tick_s, time.monotonic() + tick_s)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(tick_s, self._advance, clock=steady)

    def _make_topics(self) -> None:
        publisher, source = self.create_publisher, qos.SENSOR_SOURCE
        self._clock_topic = (
            publisher(ClockMessage, "/clock", source) if self._values["publish_clock"] else None
        )
        self._joint_state = JointState(name=[*JOINT_NAMES, *MIMICS])
        self._joints_topic = publisher(JointState, "joint_states", source)
        self._status_topic = publisher(TaskStatus, "task_status", qos.STATUS)
        size = (self._values["camera_width"], self._values["camera_height"])
        self._images, self._infos, self._image_topics, self._info_topics = {}, {}, {}, {}
        for camera in CAMERAS:
            info = camera_info(f"{camera}_camera_optical_frame", *size, FIELD_OF_VIEW_DEG[camera])
            self._images[camera], self._infos[camera] = Image(header=info.header), info
            topic = f"{camera}_camera"
            self._image_topics[camera] = publisher(Image, f"{topic}/image_raw", source)
            self._info_topics[camera] = publisher(CameraInfo, f"{topic}/camera_info", source)
        for arm in ARMS:
            topic = f"{arm}_arm_controller/joint_trajectory"
            take = partial(self._on_trajectory, arm)
            self.create_subscription(JointTrajectory, topic, take, qos.COMMAND)
        self.create_service(ResetTask, "reset_task", self._on_reset)

    def _reset(self, task: str, seed: int) -> None:
        """Start an episode; the controllers hold where the arms now are."""
        self._twin.reset(task, seed)
        # Later than all that was published before, or somebody takes that for the new episode's.
        self._now_ns += 1
        self._reset_ns = self._now_ns
        home = self._twin.commanded
        self._controllers = {
            arm: TrajectoryController(names, home[[JOINT_NAMES.index(name) for name in names]])
            for arm, names in ARM_JOINTS.items()
        }

    def _on_reset(
        self, request: ResetTask.Request, response: ResetTask.Response
    ) -> ResetTask.Response:
        try:
            self._reset(request.task, request.seed)
        except DfmVlaError as error:
            response.message = str(error)
            return response
        self._publish_status()
        self._publish_joints()
        response.success, response.instruction = True, self._twin.instruction
        return response

    def _on_trajectory(self, arm: str, message: JointTrajectory) -> None:
        start_ns = nanoseconds(message.header.stamp)
        if 0 < start_ns < self._reset_ns:
            return  # meant for the episode before
        try:
            trajectory = from_message(message)
            if start_ns and self._is_from_elsewhere(arm, trajectory):
                self.get_logger().info(f"{arm} arm: a trajectory of the episode before, ignored")
                return
            self._controllers[arm].receive(
                trajectory,
                self._seconds(start_ns) if start_ns else self._seconds(self._now_ns),
                self._seconds(self._now_ns),
            )
        except (TrajectoryRefused, TrajectoryMalformed) as error:
            self.get_logger().warning(f"{arm} arm refused a trajectory: {error}")

    def _is_from_elsewhere(self, arm: str, trajectory: Trajectory) -> bool:
        """Return whether it begins far from where the reset put the arm a moment ago.

        Its sender had not heard of the reset. Its stamp cannot tell, because stamps lie ahead.
        """
        now_s = self._seconds(self._now_ns)
        if now_s > NEWS_S or trajectory.joint_names != ARM_JOINTS[arm]:
            return False
        at = self._controllers[arm].sample(now_s)[0]
        return bool((np.abs(trajectory.positions[0] - at) > ELSEWHERE_RAD).any())

    def _seconds(self, ns: int) -> float:
        """Return seconds since the reset: small numbers keep their precision."""
        return (ns - self._reset_ns) / NANOSECONDS

    def _advance(self) -> None:
        """Run the ticks that are due; the last one ends now."""
        due = self._pace.due(time.monotonic())
        now_ns = time.time_ns()
        for left in reversed(range(due)):
            self._tick(now_ns - left * TICK_NS)

    def _tick(self, real_ns: int) -> None:
        """Simulate 10 ms; publish joint states, at their rates images and status.

        With /clock simulated time counts ticks. Without, it is real time, and stamps follow it as
        those of a real robot do, however late the machine was.
        """
        simulated_ns = self._now_ns + TICK_NS
        end_ns = simulated_ns if self._clock_topic else max(real_ns, self._now_ns + 1)
        for left in reversed(range(self._steps_per_tick)):
            self._command(end_ns - left * TICK_NS // self._steps_per_tick)
            self._twin.step()
        self._now_ns = end_ns
        self._ticks += 1
        with_images = self._ticks % self._ticks_per_image == 0
        # Rendered before anything is published: what wakes the other nodes takes its cores.
        views = self._twin.render() if with_images else {}
        self._publish_clock()
        self._publish_joints()
        if with_images:
            self._publish_images(views)
        success = self._twin.status().success
        if success != self._success or self._ticks % round(0.1 / TICK_S) == 0:
            self._publish_status()
        self._success = success

    def _command(self, at_ns: int) -> None:
        """Give the twin what the controllers command at ``at_ns``, within its stops."""
        now_s = self._seconds(at_ns)
        command = np.concatenate([self._controllers[arm].sample(now_s)[0] for arm in ARMS])
        scene = self._twin.scene
        self._twin.command(np.clip(command, scene.lower, scene.upper))

    def _publish_clock(self) -> None:
        if self._clock_topic is not None:
            self._clock_topic.publish(ClockMessage(clock=from_nanoseconds(self._now_ns)))

    def _publish_joints(self) -> None:
        message = self._joint_state
        message.header.stamp = from_nanoseconds(self._now_ns)
        positions, velocities = self._twin.positions, self._twin.velocities
        message.position = doubles(np.concatenate([positions, positions[GRIPPERS]]))
        message.velocity = doubles(np.concatenate([velocities, velocities[GRIPPERS]]))
        self._joints_topic.publish(message)

    def _publish_images(self, views: Mapping[str, Rgb]) -> None:
        stamp = from_nanoseconds(self._now_ns)
        for camera in PUBLISHED_CAMERAS:
            fill(self._images[camera], views[camera])
            self._infos[camera].header.stamp = stamp  # the image has the same header
            self._image_topics[camera].publish(self._images[camera])
        for camera in PUBLISHED_CAMERAS:  # nobody waits for these
            self._info_topics[camera].publish(self._infos[camera])

    def _publish_status(self) -> None:
        status = self._twin.status()
        message = TaskStatus(
            task=status.task,
            seed=status.seed,
            instruction=status.instruction,
            success=bool(status.success),
            progress=float(status.progress),
            elapsed=status.elapsed_s,
        )
        message.header.stamp = from_nanoseconds(self._now_ns)
        self._status_topic.publish(message)

    def close(self) -> None:
        """Free the renderer in the thread that made it."""
        self._twin.close()


def _check(values: dict) -> None:
    """Refuse combinations that no single range can."""
    if values["real_time_factor"] != 1.0 and not values["publish_clock"]:
        raise ParameterError(
            f"real_time_factor is {values['real_time_factor']}: without publish_clock the graph "
            "runs on real time, so only 1.0 is possible"
        )
    ticks = 1 / (TICK_S * values["camera_rate"])
    if abs(ticks - round(ticks)) > 1e-6:
        raise ParameterError(
            f"camera_rate is {values['camera_rate']} Hz; choose 100 divided by a whole number"
        )
    unknown = [name for name in values["black_cameras"] if name and name not in CAMERAS]
    if unknown:
        raise ParameterError(f"black_cameras names {unknown[0]!r}; cameras are {CAMERAS}")


def main() -> int:
    """Run the node."""
    share_more_memory()
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
