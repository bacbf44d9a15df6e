// All workloads, in the order of the tables.
import { layers } from "./layers.js";
import { losses } from "./losses.js";
import { products } from "./products.js";
import type { Workload } from "./workload.js";

export const workloads: readonly Workload[] = [...losses, ...products, ...layers];
