// The helper that async functions become. esbuild's makes a circle of closures for each call of such a function: memory
// that only the engine's collector frees, which looks at everything each time. The platform's makes none.

/** esbuild's helper, as version 0.28 writes it. */
const THEIRS = /var __async = \(__this, __arguments, generator\) => \{\n[\s\S]*?\n\};\n/;

const OURS = "var __async = (self, words, generator) => lockgateAsync(self, words, generator);\n";

/** Puts the helper into a bundle. All lines stay where they are: the source map knows them. */
export function withAsyncHelper(code) {
  return code.replace(THEIRS, (theirs) => {
    const spare = theirs.split("\n").length - OURS.split("\n").length;
    return OURS + "\n".repeat(spare);
  });
}
