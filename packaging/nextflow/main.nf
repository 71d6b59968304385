#!/usr/bin/env nextflow
/*
 * Annotate a genome with zflipon in parts, and merge them: tracks with the same bytes as those of one run.
 *
 *   nextflow run packaging/nextflow -profile docker --fasta hg38.fa.gz --parts 16 --outdir results
 */

include { ZFLIPON_ANNOTATE } from './modules/local/zflipon/annotate/main'
include { ZFLIPON_MERGE    } from './modules/local/zflipon/merge/main'

workflow ZFLIPON {
    take:
    genomes // channel: [ val(meta), path(fasta) ]
    parts   // integer: number of parts

    main:
    numbers = channel.of(1..parts).map { number -> "${number}/${parts}".toString() }
    ZFLIPON_ANNOTATE(genomes.combine(numbers))
    ZFLIPON_MERGE(ZFLIPON_ANNOTATE.out.part.groupTuple(size: parts))

    emit:
    bigwig = ZFLIPON_MERGE.out.bigwig // channel: [ val(meta), path(bw) ]
    calls  = ZFLIPON_MERGE.out.calls  // channel: [ val(meta), path(bed.gz) ]
    record = ZFLIPON_MERGE.out.record // channel: [ val(meta), path(json) ]
}

workflow {
    main:
    if (!params.fasta) {
        error("--fasta is not set; expected one or more FASTA files, such as --fasta 'genomes/*.fa.gz'")
    }
    genomes = channel
        .fromPath(params.fasta, checkIfExists: true)
        .map { fasta -> [[id: fasta.name.replaceFirst(/\.(fa|fasta|fna)(\.b?gz)?$/, '')], fasta] }
    ZFLIPON(genomes, params.parts as Integer)
    channel
        .topic('versions')
        .unique()
        .map { process, tool, version -> "${process}:\n    ${tool}: ${version}\n" }
        .collectFile(name: 'software_versions.yml', storeDir: "${params.outdir}/pipeline_info", sort: true)
}
