package org.integerspeech

import kotlin.random.Random
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/**
 * What may be said to a bundle: the automaton of its grammar.json, over tokens or over phones. Over
 * phones, the last one of a word carries the word.
 */
class Grammar internal constructor(
    content: JSONObject,
    tokens: List<String>,
    phones: List<String>?,
) {
    private val start = content.getInt("start")
    private val arcs: Map<Int, List<Arc>>
    private val finals: Set<Int>

    /** Names of the commands. */
    val intents: List<String> = content.getJSONArray("intents").strings()

    /** What is written along an arc, and where it leads. */
    private class Arc(val written: String, val target: Int)

    init {
        val version = if (phones == null) VERSION else PHONE_VERSION
        if (content.getInt("version") != version) {
            throw JSONException("The grammar is not of version $version.")
        }
        val written = when (phones) {
            null -> tokens.map(::spoken)
            else -> content.getJSONArray("words").strings().map { " $it" }
        }
        val place = if (phones == null) TOKEN else WORD
        val rows = content.getJSONArray("arcs")
        arcs = List(rows.length()) { rows.getJSONArray(it) }.groupBy({ it.getInt(0) }) {
            val number = it.getInt(place)
            if (number !in written.indices && (phones == null || number != NO_WORD)) {
                throw JSONException("An arc of the grammar has nothing to say.")
            }
            Arc(if (number == NO_WORD) "" else written[number], it.getInt(TARGET))
        }
        val ends = content.getJSONArray("finals")
        finals = List(ends.length()) { ends.getJSONArray(it).getInt(0) }.toSet()
    }

    /** Different commands, at random: up to [count]. */
    fun examples(count: Int, random: Random = Random.Default): List<String> {
        val found = linkedSetOf<String>()
        repeat(ATTEMPTS * count) {
            if (found.size < count) example(random)?.let(found::add)
        }
        return found.toList()
    }

    private fun example(random: Random): String? {
        val text = StringBuilder()
        var state = start
        repeat(LONGEST) {
            val ways = arcs[state].orEmpty()
            if (state in finals && (ways.isEmpty() || random.nextBoolean())) {
                return text.toString().trim()
            }
            val arc = ways.randomOrNull(random) ?: return null
            text.append(arc.written)
            state = arc.target
        }
        return null
    }

    private companion object {
        const val VERSION = 1
        const val PHONE_VERSION = 2
        const val ATTEMPTS = 10
        const val LONGEST = 200 // tokens or phones

        // Of an arc: state, token or phone, next state, slot, word.
        const val TOKEN = 1
        const val TARGET = 2
        const val WORD = 4
        const val NO_WORD = -1

        fun spoken(token: String) = if (token == "<space>") " " else token.replace('\u2581', ' ')

        fun JSONArray.strings() = List(length()) { getString(it) }
    }
}
