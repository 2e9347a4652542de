import { Layer } from "effect"
import * as Memory from "../../layers/EventBus/Memory.ts"
import { eventBusSuite } from "./EventBus.ts"

eventBusSuite("Memory", (maxLength) => Memory.layer({ maxLength }), Layer.empty)
