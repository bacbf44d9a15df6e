// All studies, by name.
import { ForetokenError, nearestName } from "../errors.js";
import { byteStudy } from "./bytes.js";
import { choicePointsStudy } from "./choice-points.js";
import { headsStudy } from "./heads.js";
import { howManyHeadsStudy } from "./how-many-heads.js";
import { inductionStudy } from "./induction.js";
import { memoryStudy } from "./memory.js";
import { polynomialsStudy } from "./polynomials.js";
import { progressionsStudy } from "./progressions.js";
import { starGraphStudy } from "./star-graph.js";
import type { Study } from "./study.js";

export const studies: readonly Study[] = [
  progressionsStudy,
  inductionStudy,
  polynomialsStudy,
  starGraphStudy,
  choicePointsStudy,
  byteStudy,
  headsStudy,
  howManyHeadsStudy,
  memoryStudy,
];

/** Throws BAD_OPTION, with the nearest name, for a study that is none. */
export function findStudy(name: string): Study {
  const found = studies.find((study) => study.name === name);
  if (found) return found;
  const names = studies.map((study) => study.name);
  const nearest = nearestName(name, names);
  throw new ForetokenError("BAD_OPTION", {
    op: "study",
    argument: "name",
    wanted: `one of ${names.join(", ")}`,
    got: name,
    remedy: nearest === undefined ? "`foretoken study --list` tells of each." : `Did you mean ${nearest}?`,
  });
}
