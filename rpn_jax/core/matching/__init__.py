"""Matching: which anchors are positive, negative or ignored, before sampling.

The way through the files, each of which is one idea:

`match` takes anchors and ground truth and returns labels by one of six rules;
`ground_truth` splits the rows into objects and ignored regions.

* `max_iou`, in `match` itself: thresholds of IoU, and anchors that boxes force.
* `atss`: a threshold for each box, from the anchors around its centre.
* `task_aligned` and `sim_ota`: the anchors whose predictions fit best (`predicted`).
* `region`: the cells at the centre of a box, on the level of its size.
* `centerness`: `max_iou` with OLN's thresholds, and how central each anchor is.

All but the two that read predictions begin with overlaps. Anchors given as plain boxes
go to `any_boxes`. Anchors given as a grid go to `grid`, which sees every level as rows
times columns (`axes`) and picks `on_cpu` or `on_accelerator`. `forced` decides which
anchors a box forces positive. `ignore_regions` drops anchors in ignored regions. All
return an `Association`, and the rules return `Matches`. `per_object` counts what every
object got.

Glossary, one word for one thing:

* force: a box makes its best anchors positive although their IoU is below the positive
  threshold. `forced_by` is the row of that box.
* kept: an anchor that takes part in matching. Border rules, padding and ignored regions
  drop the others; their label is -1.
* floor: IoUs below it, and the boxes they belong to, may be wrong. A higher floor makes
  the CPU form faster.
* shape: one of the `a` anchors of a cell. A level holds every shape in every cell.
* peak: the best overlap of a box with a shape anywhere on a level.
* window: the rectangle of cells in which a box can reach the floor with a shape.
* claim: a box wants an anchor as a positive. `claims` decides between several boxes.
* candidate: an anchor that a box may claim.
* alignment: how well the score and the predicted box of an anchor fit a box.
* ignored region: a row of ground truth that is not an object, such as a crowd in COCO
  or a difficult object in VOC. Anchors that lie in it get label -1.
"""
