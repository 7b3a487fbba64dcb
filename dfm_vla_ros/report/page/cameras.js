// What the cameras saw: at the cursor, against the references, at the largest errors, as films.
function seenSection(runs, cursor) {
  const run = runs.find((one) => one.chunks.some((chunk) => Object.keys(chunk.pictures).length));
  if (!run) return null;
  const row = el("div", { class: "pictures", id: "seen" });
  const sentence = note("");
  cursor.watch(() => {
    const chunk = cursor.chunkOf(run);
    row.replaceChildren(...Object.entries(chunk.pictures).map(([camera, file]) =>
      el("figure", {}, picture(file, `${camera} at ${text(cursor.time, 4)} s`), el("figcaption", {}, camera))));
    sentence.textContent = [chunk.instruction && `“${chunk.instruction}”`, chunk.refused && `refused: ${chunk.refused}`,
      `inference ${text(1000 * chunk.inference_s)} ms`].filter(Boolean).join("; ");
  });
  return section("What the policy saw", row, sentence);
}

function cameraSection(run) {
  const { comparison, samples, references } = run;
  if (!comparison.cameras.length) return null;
  const own = (camera) => references.find((reference) => reference.camera === camera);
  const head = ["Camera", "saw", references.length ? "should see" : null,
    ...comparison.references.map((name) => `from ${name}`), references.length ? "lies right, down" : null];
  const rows = comparison.cameras.map((camera, r) => {
    const cells = comparison.references.flatMap((_, c) => [0, 1].map((order) => comparison.difference.at(r, c, order)));
    const least = Math.min(...cells);
    return [camera, picture(samples[camera], `${camera} saw this`),
      references.length ? (own(camera) ? picture(own(camera).image, `${camera} should see this`) : "–") : null,
      ...comparison.references.map((_, c) => [0, 1].map((order) => {
        const value = cells[2 * c + order];
        return el("div", { class: value === least ? "least" : null },
          `${text(value, 2)}${order ? ", red and blue exchanged" : ""}${value === least ? ": nearest" : ""}`);
      })),
      references.length ? (Number.isFinite(comparison.shift.at(r, 0)) ? `${percent(comparison.shift.at(r, 0))}, ${percent(comparison.shift.at(r, 1))}` : "0") : null,
    ].filter((cell) => cell !== null);
  });
  const origins = [...new Set(references.map((reference) => reference.origin).filter(Boolean))];
  return section(`Cameras: ${run.name}`,
    table(head.filter((name) => name !== null), rows, `Pictures of ${run.name} against references`),
    references.length ? note(`Mean difference of the pictures, 0 to 255; the nearest of a row should be the camera's own, not exchanged. References: ${origins.join(", ") || "not named"}.`)
      : note("No reference pictures were given, so these are not compared with anything."), followingTable(run));
}

// Which arm each wrist camera moves with.
function followingTable(run) {
  const { cameras, arms, change } = run.following;
  if (!cameras.length) return null;
  return el("div", {}, table(["Camera", ...arms.map((arm) => `moves with the ${arm} arm`)],
    cameras.map((camera, r) => [camera, ...arms.map((arm, c) => text(change.at(r, c), 2))]), `Arms that the wrist cameras of ${run.name} move with`),
  note("Change of the picture that goes with the arm's motion, in grey levels; a wrist camera should move with its own arm. –: the arm did not move."));
}

function worstSection(run, cursor) {
  const rows = Array.from(run.figures.worst.data);
  if (!rows.length) return null;
  const { errors, due_s: due } = run.figures;
  const worstJoint = (c) => {
    let found = [0, -1, 0];
    for (let h = 0; h < due.shape[1]; h++) {
      run.joint_names.forEach((_, joint) => {
        const share = errors.at(c, h, joint) / Math.max(0.01, run.figures.by_joint.at(joint, 2));
        if (share > found[1]) found = [joint, share, errors.at(c, h, joint)];
      });
    }
    return `${run.joint_names[found[0]]} off by ${text(found[2])} ${run.units[found[0]]}`;
  };
  return section(`Largest errors: ${run.name}`, el("ol", { class: "worst" }, rows.map((c) => {
    const chunk = run.chunks[c];
    return el("li", {},
      el("button", { type: "button", onclick: () => cursor.set({ time: chunk.time_s }) }, `Go to ${text(chunk.time_s, 4)} s`),
      el("span", {}, `mean ${percent(run.figures.score.at(c))} of the motion; ${worstJoint(c)}`),
      el("div", { class: "pictures" }, Object.entries(chunk.pictures).map(([camera, file]) =>
        picture(file, `${camera} at ${text(chunk.time_s, 4)} s`))));
  })));
}

function filmSection(runs, cursor) {
  const films = runs[0].films;
  if (!films.length) return null;
  return section("Films", el("div", { class: "films" }, films.map((film) => {
    const player = video(film);
    player.addEventListener("timeupdate", () => {
      if (!player.paused) cursor.set({ time: film.start_s + player.currentTime });
    });
    cursor.watch(() => {
      const wanted = cursor.time - film.start_s;
      if (player.paused && wanted >= 0 && wanted <= film.duration_s) player.currentTime = wanted;
    });
    return el("figure", {}, player, el("figcaption", {}, film.caption || "film"));
  })), note("Films follow the scrubber, and it follows them while they play."));
}
