// What a folder of compiled Kotlin offers to others, as text: one line for each declaration.

package com.aimatrix.engine.kotlin

import java.io.File
import kotlin.metadata.ClassKind
import kotlin.metadata.KmClass
import kotlin.metadata.KmClassifier
import kotlin.metadata.KmFunction
import kotlin.metadata.KmProperty
import kotlin.metadata.KmType
import kotlin.metadata.KmTypeParameter
import kotlin.metadata.KmTypeProjection
import kotlin.metadata.KmValueParameter
import kotlin.metadata.KmVariance
import kotlin.metadata.Modality
import kotlin.metadata.Visibility
import kotlin.metadata.declaresDefaultValue
import kotlin.metadata.isInline
import kotlin.metadata.isNullable
import kotlin.metadata.isReified
import kotlin.metadata.isSuspend
import kotlin.metadata.isVar
import kotlin.metadata.jvm.KotlinClassMetadata
import kotlin.metadata.kind
import kotlin.metadata.modality
import kotlin.metadata.visibility

/**
 * Reads what is public or protected.
 *
 * @property platformTypes declarations with a type of Java's of which nobody says whether it may be null
 */
internal class PublicApi(classes: File) {
    val platformTypes = mutableListOf<String>()
    val declarations: List<String>

    private val visibilities = HashMap<String, Visibility>() // of classes
    private var flexible = false // what is described now has a platform type
    private var parameters = mapOf<Int, String>() // names of those in scope, by id

    init {
        declarations = classes.walk().filter { it.extension == "class" }
            .map { it.relativeTo(classes).path.removeSuffix(".class").replace(File.separatorChar, '.') }
            .sorted()
            .flatMap { described(it) }
            .map { it.replace(KNOWN, "") }
            .toList()
    }

    private fun described(name: String): List<String> {
        val found = Class.forName(name, false, javaClass.classLoader).getAnnotation(Metadata::class.java) ?: return emptyList()
        return when (val read = KotlinClassMetadata.readStrict(found)) {
            is KotlinClassMetadata.Class -> type(read.kmClass)
            is KotlinClassMetadata.FileFacade -> {
                val place = name.substringBeforeLast('.')
                parameters = emptyMap()
                val members = read.kmPackage.functions.mapNotNull(::function) + read.kmPackage.properties.mapNotNull(::property)
                val aliases = read.kmPackage.typeAliases.filter { open(it.visibility) }
                    .map { "typealias ${it.name} = ${text(it.expandedType)}" }.sorted()
                (aliases + members.sorted()).map { "$place: $it" }
            }
            else -> emptyList()
        }
    }

    private fun type(type: KmClass): List<String> {
        val outer = type.name.split('.')
        val closed = outer.indices.any { depth ->
            val nested = outer.take(depth + 1).joinToString(".")
            nested != type.name && !open(visibilities.getOrDefault(nested, Visibility.PUBLIC))
        }
        visibilities[type.name] = type.visibility
        if (!open(type.visibility) || closed) return emptyList()
        named(type.typeParameters, emptyMap())
        val own = parameters
        val name = type.name.replace('/', '.')
        val parents = type.supertypes.map(::text).filter { it != "kotlin.Any" }
        val kind = type.kind.name.lowercase().replace('_', ' ')
        val head = listOf(checked("${modality(type.modality)}$kind $name${said(type.typeParameters)}" +
            if (parents.isEmpty()) "" else " : ${parents.joinToString()}"))
        val constructors = type.constructors.filter { open(it.visibility) && type.kind == ClassKind.CLASS }
            .map { checked("  ${protection(it.visibility)}constructor${text(it.valueParameters)}") }
        val members = type.functions.mapNotNull { parameters = own; function(it) } +
            type.properties.mapNotNull { parameters = own; property(it) }
        val entries = type.kmEnumEntries.map { "  entry ${it.name}" }
        return head + entries + constructors + members.sorted().map { "  $it" }
    }

    private fun open(visibility: Visibility) = visibility == Visibility.PUBLIC || visibility == Visibility.PROTECTED

    private fun function(function: KmFunction): String? {
        if (!open(function.visibility)) return null
        val before = parameters
        named(function.typeParameters, before)
        val receiver = function.receiverParameterType?.let { "${text(it)}." } ?: ""
        val line = protection(function.visibility) + modality(function.modality) +
            (if (function.isSuspend) "suspend " else "") + (if (function.isInline) "inline " else "") +
            "fun ${said(function.typeParameters)}$receiver${function.name}${text(function.valueParameters)}: " +
            text(function.returnType)
        parameters = before
        return checked(line)
    }

    private fun property(property: KmProperty): String? {
        if (!open(property.visibility)) return null
        val before = parameters
        named(property.typeParameters, before)
        val receiver = property.receiverParameterType?.let { "${text(it)}." } ?: ""
        val line = protection(property.visibility) + modality(property.modality) +
            (if (property.isVar && property.setter?.visibility?.let(::open) == true) "var " else "val ") +
            said(property.typeParameters) + "$receiver${property.name}: ${text(property.returnType)}"
        parameters = before
        return checked(line)
    }

    private fun checked(line: String): String {
        if (flexible) platformTypes += line
        flexible = false
        return line
    }

    private fun protection(visibility: Visibility) = if (visibility == Visibility.PROTECTED) "protected " else ""

    private fun modality(modality: Modality) = if (modality == Modality.FINAL) "" else "${modality.name.lowercase()} "

    private fun named(declared: List<KmTypeParameter>, outer: Map<Int, String>) {
        parameters = outer + declared.associate { it.id to it.name }
    }

    private fun said(declared: List<KmTypeParameter>): String =
        if (declared.isEmpty()) ""
        else declared.joinToString(prefix = "<", postfix = "> ") { one ->
            val bound = one.upperBounds.filterNot { it.isNullable && text(it) == "kotlin.Any?" }.map(::text)
            (if (one.isReified) "reified " else "") + one.name + if (bound.isEmpty()) "" else " : ${bound.joinToString(" & ")}"
        }

    private fun text(parameters: List<KmValueParameter>): String = parameters.joinToString(prefix = "(", postfix = ")") {
        val repeated = it.varargElementType
        (if (repeated == null) "${it.name}: ${text(it.type)}" else "vararg ${it.name}: ${text(repeated)}") +
            if (it.declaresDefaultValue) " = …" else ""
    }

    private fun text(type: KmType): String {
        if (type.flexibleTypeUpperBound != null) flexible = true
        type.abbreviatedType?.let { return text(it) }
        val name = when (val classifier = type.classifier) {
            is KmClassifier.Class -> classifier.name.replace('/', '.')
            is KmClassifier.TypeAlias -> classifier.name.replace('/', '.')
            is KmClassifier.TypeParameter -> parameters[classifier.id] ?: "T${classifier.id}"
        }
        val arguments = if (type.arguments.isEmpty()) "" else type.arguments.joinToString(prefix = "<", postfix = ">", transform = ::text)
        return (if (type.isSuspend) "suspend " else "") + name + arguments + if (type.isNullable) "?" else ""
    }

    private fun text(argument: KmTypeProjection): String {
        val type = argument.type ?: return "*"
        return (if (argument.variance == KmVariance.INVARIANT) "" else "${argument.variance?.name?.lowercase()} ") + text(type)
    }
}

private val KNOWN = Regex("""\b(kotlin\.(collections\.)?|com\.aimatrix\.engine\.kotlin\.)(?=[A-Z])""")
