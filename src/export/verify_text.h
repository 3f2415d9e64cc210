// A page of plain prose, for a look at whether a model still predicts as it did.
#pragma once

namespace neap {

inline constexpr const char* kVerifyText =
    "The harbour of a small town is a good place to learn how work is divided. Before sunrise the boats come in, and "
    "within an hour the catch has been weighed, sorted and packed in ice. Some of it leaves by lorry for the city, "
    "where it will be sold before noon; the rest goes to the market two streets away. Nobody gives orders, because "
    "everybody knows what comes next. When a visitor asks why the scales stand so far from the boats, the answer is "
    "that they stood there when the pier was longer, and that moving them would cost more than walking does.\n"
    "\n"
    "Water boils at a lower temperature on a mountain than at the coast, since there is less air above it to press on "
    "its surface. At sea level it takes one hundred degrees Celsius; at three thousand metres about ninety are "
    "enough. A cook who does not know this will wonder why the potatoes are still hard after twenty minutes. The "
    "remedy is either patience or a pot with a tight lid, in which the steam itself provides the missing pressure.\n"
    "\n"
    "To find the largest number in a list, look at the first one and remember it. Then go through the others, one "
    "after another; whenever a number is larger than the one you remember, remember it instead. At the end you hold "
    "the answer, and you have looked at each number exactly once. In Python this is a loop of three lines:\n"
    "\n"
    "def largest(numbers):\n"
    "    best = numbers[0]\n"
    "    for n in numbers[1:]:\n"
    "        if n > best:\n"
    "            best = n\n"
    "    return best\n"
    "\n"
    "The treaty was signed in the spring of 1648, after nearly five years of talks in two cities whose delegates "
    "could not agree on who should enter a room first. It ended a war that had lasted for thirty years and left whole "
    "regions without farmers, horses or seed. Historians still argue about what it changed, but most of them hold "
    "that from then on rulers treated one another, at least on paper, as equals.\n";

}  // namespace neap
