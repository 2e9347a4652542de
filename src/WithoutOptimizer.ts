import { stopOptimizer } from "./Optimizer.ts"

// The first import of a command that ends by itself after seconds: optimized code gains it nothing, and it may exit at
// any moment, in the middle of a compilation.
stopOptimizer()
