// The package through `require`: the same names as through `import`, and an addon that computes.
const { openDevice, tensor } = require("foretoken");

async function main() {
  const device = openDevice("cpu");
  const x = tensor([1, 2, 3], { device, dtype: "f32" });
  console.log(JSON.stringify({ names: Object.keys(require("foretoken")), data: Array.from(await x.data()) }));
}

main();
