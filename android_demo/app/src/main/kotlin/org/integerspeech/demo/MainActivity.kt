package org.integerspeech.demo

import android.Manifest
import android.annotation.SuppressLint
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Bundle
import android.os.SystemClock
import android.provider.Settings
import android.view.Menu
import android.view.MenuItem
import android.view.MotionEvent
import android.view.View
import android.view.ViewGroup
import android.view.inputmethod.InputMethodManager
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.Spinner
import android.widget.TextView
import kotlin.math.roundToInt
import org.integerspeech.SpeechEvent

/** The screen: it shows the model's state, and tells it what the user does. */
open class MainActivity : Activity() {
    private lateinit var model: DemoModel
    private lateinit var shown: DemoState
    private val results by lazy { part<LinearLayout>(R.id.results) }
    private val speak by lazy { part<ImageButton>(R.id.speak) }
    private val bundles by lazy { part<Spinner>(R.id.bundles) }
    private val phrases by lazy { part<EditText>(R.id.phrases) }

    /** What the app runs on; tests give another. */
    protected open fun phone(): Phone = RealPhone(applicationContext)

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        @Suppress("DEPRECATION") // the other ways need libraries
        model = lastNonConfigurationInstance as DemoModel? ?: DemoModel(phone())
        shown = model.state
        setUpBundles()
        setUpSpeaking()
        part<Button>(R.id.more).setOnClickListener { model.moreExamples() }
        part<Button>(R.id.settings).setOnClickListener { openSettings() }
        part<Button>(R.id.use_phrases).setOnClickListener { usePhrases(phrases.text.toString()) }
        part<Button>(R.id.reset_phrases).setOnClickListener { usePhrases(null) }
        model.observer = ::show
    }

    @Deprecated("The other ways need libraries.")
    override fun onRetainNonConfigurationInstance(): Any = model

    override fun onStop() {
        if (!isChangingConfigurations) model.stop()
        super.onStop()
    }

    override fun onDestroy() {
        model.observer = null
        if (!isChangingConfigurations) model.close()
        super.onDestroy()
    }

    override fun onCreateOptionsMenu(menu: Menu): Boolean {
        menuInflater.inflate(R.menu.main, menu)
        return true
    }

    override fun onPrepareOptionsMenu(menu: Menu): Boolean {
        val rests = shown.phase == DemoState.Phase.READY
        menu.findItem(R.id.open_file).isEnabled = rests
        menu.findItem(R.id.share).isVisible = rests && shown.hasRecording
        menu.findItem(R.id.clear).isEnabled = rests
        return true
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        when (item.itemId) {
            R.id.open_file -> chooseFile()
            R.id.share -> model.share({ getString(R.string.not_shared, it) }, ::share)
            R.id.clear -> model.clear()
            else -> return super.onOptionsItemSelected(item)
        }
        return true
    }

    override fun onRequestPermissionsResult(
        code: Int,
        permissions: Array<String>,
        granted: IntArray,
    ) {
        val allowed = granted.firstOrNull() == PackageManager.PERMISSION_GRANTED
        // Nothing granted and nothing denied: the question was interrupted, for example by a call.
        if (granted.isNotEmpty()) {
            model.permission(allowed, getString(R.string.permission_denied))
        }
    }

    @Deprecated("The other ways need libraries.")
    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        val file = data?.data
        if (code == FILE && result == RESULT_OK && file != null) model.open(file)
    }

    private fun setUpBundles() {
        val adapter = ArrayAdapter(
            this, android.R.layout.simple_spinner_item, shown.bundles,
        )
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
        bundles.adapter = adapter
        bundles.setSelection(shown.bundles.indexOf(shown.bundle))
        bundles.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(list: AdapterView<*>?, row: View?, place: Int, id: Long) =
                model.choose(shown.bundles[place])

            override fun onNothingSelected(list: AdapterView<*>?) = Unit
        }
    }

    /** A tap begins and ends; who holds the button ends by letting go. */
    @SuppressLint("ClickableViewAccessibility") // clicks do the same
    private fun setUpSpeaking() {
        var pressed = 0L
        speak.setOnClickListener { toggle() }
        speak.setOnTouchListener { button, event ->
            when (event.actionMasked) {
                MotionEvent.ACTION_DOWN -> {
                    pressed = if (shown.phase == DemoState.Phase.LISTENING) 0 else now()
                    button.performClick()
                }
                MotionEvent.ACTION_UP, MotionEvent.ACTION_CANCEL ->
                    if (pressed > 0 && now() - pressed > HELD) model.stop()
            }
            true
        }
    }

    private fun toggle() {
        if (shown.phase == DemoState.Phase.LISTENING) {
            model.stop()
        } else if (checkSelfPermission(RECORD) == PackageManager.PERMISSION_GRANTED) {
            model.start()
        } else {
            requestPermissions(arrayOf(RECORD), PERMISSION)
        }
    }

    /** Holds the model to phrases; the keyboard makes room for what may be said. */
    private fun usePhrases(text: String?) {
        val keyboard = getSystemService(INPUT_METHOD_SERVICE) as InputMethodManager
        keyboard.hideSoftInputFromWindow(phrases.windowToken, 0)
        model.use(text)
    }

    private fun showPhrases(state: DemoState, before: DemoState) {
        val rests = state.phase == DemoState.Phase.READY
        showIf(R.id.phrases_panel, state.takesPhrases)
        showIf(R.id.reset_phrases, state.phrases.text != null)
        part<Button>(R.id.use_phrases).isEnabled = rests
        part<Button>(R.id.reset_phrases).isEnabled = rests
        showText(R.id.phrases_error, state.phrases.error.orEmpty())
        if (state.phrases.error != null && state.phrases != before.phrases) {
            phrases.requestFocus()
            phrases.setSelection(state.phrases.position.coerceAtMost(phrases.length()))
        }
    }

    private fun show(state: DemoState) {
        val before = shown
        shown = state
        part<TextView>(R.id.status).text = status(state)
        part<LevelView>(R.id.level).decibels = state.decibels
        val listens = state.phase == DemoState.Phase.LISTENING
        speak.isEnabled = listens || state.phase == DemoState.Phase.READY
        speak.isActivated = listens
        speak.setImageResource(if (listens) R.drawable.stop else R.drawable.microphone)
        speak.contentDescription = getString(if (listens) R.string.stop else R.string.speak)
        bundles.isEnabled =
            state.phase == DemoState.Phase.READY || state.phase == DemoState.Phase.FAILED
        showText(R.id.message, state.message.orEmpty())
        showText(R.id.early, state.early)
        showIf(R.id.settings, state.asksPermission)
        if (state.results !== before.results || results.childCount == 0) showResults(state)
        showIf(R.id.examples_panel, state.results.isEmpty() && state.bundle != null)
        showIf(R.id.more, state.hasGrammar)
        val anything = when {
            !state.freeText -> R.string.phrases_example
            state.takesPhrases -> R.string.anything_example
            else -> R.string.digits_example
        }
        part<TextView>(R.id.examples).text =
            state.examples.joinToString("\n").ifEmpty { getString(anything) }
        showPhrases(state, before)
        if (state.phase != before.phase || state.hasRecording != before.hasRecording) {
            invalidateOptionsMenu()
        }
    }

    private fun status(state: DemoState): String = when (state.phase) {
        DemoState.Phase.NO_BUNDLE -> getString(R.string.no_bundle)
        DemoState.Phase.LOADING -> getString(R.string.loading, state.bundle)
        DemoState.Phase.FAILED -> "" // the message says it
        DemoState.Phase.READY -> getString(R.string.ready)
        DemoState.Phase.LISTENING -> getString(R.string.listening)
        DemoState.Phase.READING -> getString(R.string.reading)
        DemoState.Phase.COMPILING -> getString(R.string.compiling)
    }

    private fun showResults(state: DemoState) {
        results.removeAllViews()
        state.results.forEach { result ->
            val row = layoutInflater.inflate(R.layout.result, results, false)
            row.part<TextView>(R.id.text).text = when {
                result.text.isEmpty() -> getString(R.string.nothing_heard)
                result is SpeechEvent.Rejected -> getString(R.string.rejected, result.text)
                else -> result.text
            }
            val sure = result.confidence?.let { getString(R.string.confidence, percent(it)) }
            val intent = (result as? SpeechEvent.Command)?.intent
            row.part<TextView>(R.id.intent).text = listOfNotNull(intent, sure).joinToString(" · ")
            if (result is SpeechEvent.Command) showSlots(result, row.part(R.id.slots))
            val timing = result.timing
            row.part<TextView>(R.id.times).text = getString(
                R.string.times, timing.encoder, timing.stepCount, timing.steps, timing.afterSpeech,
            )
            results.addView(row)
        }
    }

    private fun showSlots(command: SpeechEvent.Command, list: ViewGroup) {
        command.slots.forEach { (name, slot) ->
            val chip = layoutInflater.inflate(R.layout.slot, list, false) as TextView
            chip.text = getString(R.string.slot, name, slot.value)
            list.addView(chip)
        }
    }

    private fun chooseFile() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT)
            .addCategory(Intent.CATEGORY_OPENABLE)
            .setType("audio/*")
        try {
            @Suppress("DEPRECATION")
            startActivityForResult(intent, FILE)
        } catch (error: ActivityNotFoundException) {
            showText(R.id.message, error.message.orEmpty())
        }
    }

    private fun share(text: String) {
        val intent = Intent(Intent.ACTION_SEND)
            .setType("audio/wav")
            .putExtra(Intent.EXTRA_STREAM, RecordingProvider.URI)
            .putExtra(Intent.EXTRA_SUBJECT, getString(R.string.share_subject))
            .putExtra(Intent.EXTRA_TEXT, text)
            .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        startActivity(Intent.createChooser(intent, getString(R.string.share)))
    }

    private fun openSettings() {
        val app = Uri.fromParts("package", packageName, null)
        startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, app))
    }

    private fun showText(id: Int, text: String) {
        part<TextView>(id).text = text
        showIf(id, text.isNotEmpty())
    }

    private fun showIf(id: Int, shows: Boolean) {
        part<View>(id).visibility = if (shows) View.VISIBLE else View.GONE
    }

    private fun <T : View> part(id: Int): T = window.decorView.part(id)

    private companion object {
        const val RECORD = Manifest.permission.RECORD_AUDIO
        const val PERMISSION = 1
        const val FILE = 2
        const val HELD = 500L // milliseconds

        /** A view of the layout. */
        fun <T : View> View.part(id: Int): T = checkNotNull(findViewById<T>(id))

        fun now() = SystemClock.uptimeMillis()

        fun percent(share: Float) = (100 * share).roundToInt()
    }
}
